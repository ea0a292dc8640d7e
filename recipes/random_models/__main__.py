"""Write a model folder of random weights in the official format.

python -m recipes.random_models --generation 2 --size full OUT
"""

from __future__ import annotations

import argparse
from pathlib import Path

from recipes.random_models.folder import Spelling, write_folder
from recipes.random_models.sizes import GENERATIONS, SIZES


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="a folder that does not exist yet")
    parser.add_argument("--generation", type=int, choices=GENERATIONS, required=True)
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rl", action="store_true", help="also write llm.rl.pt")
    parser.add_argument(
        "--old-weight-norm", action="store_true", help="weight_g and weight_v in hift.pt"
    )
    parser.add_argument(
        "--generator-prefix", action="store_true", help="generator. before the keys of hift.pt"
    )
    options = parser.parse_args()
    folder = write_folder(
        options.out,
        options.generation,
        options.size,
        seed=options.seed,
        spelling=Spelling(options.old_weight_norm, options.generator_prefix),
        reinforced=options.rl,
    )
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: generation {options.generation}, {options.size}, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
