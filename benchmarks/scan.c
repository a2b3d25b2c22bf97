// The forward selective scan in plain C with GCC's vector types, the yardstick of scan.py: one block of 16 channels after
// the other, states in an array, the exponential as a polynomial (expf would not vectorise).
// gcc -O3 -march=native -fopenmp
#include <string.h>
#define LANES 16
typedef float lanes __attribute__((vector_size(4*LANES), aligned(4)));
typedef int bits __attribute__((vector_size(4*LANES)));

static inline lanes exp2_of(lanes x) {                     // 2^x for x <= 0, relative error about 1e-7
    bits low = x < -126.f;                                 // all ones where it is too small
    x = (lanes)(((bits)((lanes){} - 126.f) & low) | ((bits)x & ~low));
    bits k = __builtin_convertvector(x - .5f, bits);       // towards zero, so to the nearest
    lanes f = x - __builtin_convertvector(k, lanes);
    lanes p = 1.326472731e-3f*f + 9.671512991e-3f;
    p = p*f + 5.550733581e-2f; p = p*f + 2.402224243e-1f; p = p*f + 6.931470037e-1f; p = p*f + 1.f;
    return p * (lanes)((k + 127) << 23);
}

// u, delta, y (time, d); A (d/16, n, 16) times log2(e); B, C (time, n); d a multiple of 16, n at most 64.
void scan(const float *u, const float *delta, const float *A, const float *B, const float *C, float *y, long time, long d, long n) {
    #pragma omp parallel for
    for (long block = 0; block < d/LANES; block++) {
        lanes h[64]; memset(h, 0, sizeof h);
        for (long t = 0; t < time; t++) {
            lanes dt = *(lanes *)(delta + t*d + block*LANES), dx = dt * *(lanes *)(u + t*d + block*LANES), out = {};
            for (long j = 0; j < n; j++) {
                h[j] = exp2_of(dt * *(lanes *)(A + (block*n + j)*LANES))*h[j] + dx*B[t*n + j];
                out += h[j]*C[t*n + j];
            }
            *(lanes *)(y + t*d + block*LANES) = out;
        }
    }
}
