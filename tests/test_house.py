"""The house has floors: nothing imports upwards, nothing in a circle. And a way through it: every notebook is
reached, once.
"""

import graphlib

import house
import nbformat
import pytest
from house import BRANCHES, MAY_LOOK_UP, NBS, branches, floor, imports, modules, room, trunk


@pytest.mark.parametrize("module", modules())
def test_no_arrow_leads_upwards(module):
    "Two methods of the model look up, when they are called; a rule that is not needed is none."
    allowed = MAY_LOOK_UP.get(module, set())
    up = {other for other in imports(module)[1] if floor(other) > floor(module)}
    assert up == allowed
    assert not any(
        floor(other) == floor(module) and room(other) != room(module)
        for other in imports(module)[1] - allowed
    )


def test_there_is_no_circle():
    order = graphlib.TopologicalSorter(
        {module: imports(module)[1] - MAY_LOOK_UP.get(module, set()) for module in modules()}
    )
    assert len([*order.static_order()]) == len(modules())


def test_every_module_lies_in_a_room():
    assert {room(module) for module in modules()} == {name for rooms in house.FLOORS for name in rooms}


def test_the_trunk_has_no_gap_and_the_chain_visits_each_notebook_once():
    assert [name[:2] for name in trunk()] == [f"{n:02}" for n in range(1, len(trunk()) + 1)]
    at, visited = "index", []
    while at := (trunk()[0] if at == "index" else house.neighbours(at)[1]):
        visited.append(at)
    assert visited == trunk()


def test_every_branch_hangs_from_one_notebook_of_the_trunk():
    hanging = [name for names in BRANCHES.values() for name in names]
    assert sorted(hanging) == branches() and set(BRANCHES) <= set(trunk())


@pytest.mark.parametrize("name", trunk() + branches())
def test_a_notebook_says_where_it_is(name):
    "As `python tests/house.py` writes it."
    cells = nbformat.read(NBS / f"{name}.ipynb", 4).cells
    assert cells[0].source.endswith("\n\n" + house.first_words(name, cells)) and cells[
        -1
    ].source == house.last_words(name)


@pytest.mark.parametrize("name", branches())
def test_a_branch_fills_the_room_of_its_name(name):
    module = house.module_of(nbformat.read(NBS / f"{name}.ipynb", 4).cells).removeprefix("mambamuse.")
    expected = name.removeprefix("face/").replace("/", ".")
    assert module == expected or module.endswith(f".{expected}")


@pytest.mark.parametrize("name", trunk())
def test_the_trunk_exports_nothing(name):
    "It is for reading: what it builds stands beside what the branches export, and equals it."
    code = [cell.source for cell in nbformat.read(NBS / f"{name}.ipynb", 4).cells if cell.cell_type == "code"]
    assert not any(source.startswith("# |") for source in code) and any("assert" in source for source in code)


@pytest.mark.parametrize("name", ["index", *trunk(), *branches()])
def test_links_between_notebooks_lead_somewhere(name):
    import re

    path = NBS / f"{name}.ipynb"
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type == "markdown":
            for goal in re.findall(r"\]\(((?!http|#)[^)#\s]+)", cell.source):
                assert (path.parent / goal).exists(), goal
