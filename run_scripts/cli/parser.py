"""transformers' HfArgumentParser without the rest of transformers, and what it parses for a command that trains.

Importing the package takes seconds, and Trainer's options ten. The module of the parser needs neither: it is loaded
from its file.
"""

import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path


MODULE = "transformers.hf_argparser"


def load_parser_class() -> type:
    """Load the class from its file, unless its module is there already."""
    if MODULE in sys.modules:
        return sys.modules[MODULE].HfArgumentParser
    file = Path(find_spec("transformers").origin).with_name("hf_argparser.py")
    spec = spec_from_file_location(MODULE, file)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.HfArgumentParser


HfArgumentParser = load_parser_class()
