"""Package metadata, read from settings.ini."""
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

cfg = ConfigParser(delimiters=["="])
cfg.read("settings.ini", encoding="utf-8")
cfg = cfg["DEFAULT"]

extras = {key.removeprefix("extra_"): value.split() for key, value in cfg.items() if key.startswith("extra_")}
extras["dev"] = cfg["dev_requirements"].split()

setup(
    name=cfg["lib_name"], version=cfg["version"], description=cfg["description"], author=cfg["author"],
    author_email=cfg["author_email"], license="MIT", keywords=cfg["keywords"], url=cfg["git_url"],
    long_description=Path("README.md").read_text(encoding="utf-8"), long_description_content_type="text/markdown",
    packages=find_packages(include=["mambamuse", "mambamuse.*"]),
    include_package_data=True,  # what MANIFEST.in names
    python_requires=f">={cfg['min_python']}", install_requires=cfg["requirements"].split(),
    extras_require=extras,
    entry_points={"console_scripts": [cfg["console_scripts"]]},
)
