"""The verb `import`."""

from pathlib import Path
from typing import Annotated

import typer

from mtrain.cli.options import GivenSourceLangOption, GivenTargetLangOption, file_option


def import_model(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A folder, or a name on the Hub.", show_default=False),
    ],
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A new folder.", show_default=False)],
    source_lang: GivenSourceLangOption = None,
    target_lang: GivenTargetLangOption = None,
    sample: Annotated[Path | None, file_option("Text to check with; else it is made up.")] = None,
) -> None:
    """Make a run of a Hugging Face model (Marian, M2M100, NLLB, BERT, our own), and check it."""
    from mtrain.commands.import_model import import_model

    import_model(model, run, (source_lang, target_lang), sample)
