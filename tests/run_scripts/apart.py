"""Python where this repository cannot be imported, as on the machine of somebody who only has the published folder."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path


REFUSE = """
import sys
class Refuse:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in ("m3se", "modeling", "trainers", "hub_cards", "run_scripts"):
            raise ModuleNotFoundError(f"{name} is not here")
sys.meta_path.insert(0, Refuse)
"""
RUN_ALL = """
import contextlib, io, json
outputs = {}
for name, code in json.load(open(sys.argv[1])).items():
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(code, {})
    outputs[name] = out.getvalue()
json.dump(outputs, open(sys.argv[1], "w"))
"""


def run_all(snippets: dict[str, str], cwd: Path, **settings: str) -> dict[str, str]:
    """What each snippet prints, all run in one fresh process in `cwd`; `settings` go into its environment."""
    exchange = cwd / "snippets.json"
    exchange.write_text(json.dumps(snippets))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    finished = subprocess.run(
        [sys.executable, "-c", REFUSE + RUN_ALL, str(exchange)],
        cwd=cwd,
        env=environment | {"OMP_NUM_THREADS": "1", "HF_HOME": str(cwd / "hf_home")} | settings,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(exchange.read_text())


def snippets(folder: Path) -> dict[str, str]:
    """The Python of a card by the heading above it."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    return dict(re.findall(r"##+ ([^\n]+)\n(?:(?!##).)*?```python\n(.*?)```", text, flags=re.DOTALL))


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+\.\d*(?:e-?\d+)?", text)]
