"""The strangers' data as models/ reads it: from a folder that is there, split as in the results.

Every reader is given the folder with the data and returns {"train", "test", "validation"} of
(inputs, targets). Validation is held out of the training data, and missing where nothing is;
nothing is downloaded.
"""

from pathlib import Path

from models import data, shakespeare, spoken_digits, tables
from models.files import given_folder
from models.splits import Splits


def data_folder(given: Path | None) -> Path:
    """The folder with the data: as given, else $PYRO_SWS_DATA. FileNotFoundError for none."""
    folder = given_folder(given)
    if folder is None or not folder.is_dir():
        raise FileNotFoundError(
            f"no folder with the data: {folder or 'nothing was given'}; set PYRO_SWS_DATA or "
            "--data-dir to the folder that has mnist/, speech/, text/, uci/, ..."
        )
    return folder


def digits(folder: Path | None, validation: int = 300) -> Splits:
    return data.digits(validation=validation)


def mnist(folder: Path | None, input_scale: float = 255.0, validation: int = 0) -> Splits:
    return data.mnist(input_scale, validation, data_folder(folder))


def fashion_mnist(folder: Path | None) -> Splits:
    return data.fashion_mnist(data_dir=data_folder(folder))


def cifar10(folder: Path | None) -> Splits:
    return data.cifar10(scale="resnet_20", data_dir=data_folder(folder))


def breast_cancer(folder: Path | None) -> Splits:
    return tables.breast_cancer()


def wine(folder: Path | None) -> Splits:
    return tables.wine()


def diabetes(folder: Path | None) -> Splits:
    return tables.diabetes()


def protein(folder: Path | None) -> Splits:
    return tables.protein(data_dir=data_folder(folder))


def spoken(folder: Path | None) -> Splits:
    return spoken_digits.spoken_digits(data_dir=data_folder(folder))


def text(folder: Path | None) -> Splits:
    return shakespeare.shakespeare(data_dir=data_folder(folder))
