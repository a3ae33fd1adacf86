"""Data sets: arrays, folders of pictures, and real ones that ship inside packages."""

from .arrays import from_arrays, open_arrays
from .check import Checked, check
from .dataset import Dataset
from .digits import open_digits
from .fashion import open_fashion
from .folder import FolderScan, open_folder, scan_folder
from .grid_picture import sample_grid
from .measure import fingerprint
from .mnist5k import open_mnist5k
from .order import order
from .own import own_data
from .parquet import open_parquet
from .registry import BUILT_IN, SOURCES, Source, detect, load_data, open_data
from .spec import DataSpec
from .webdataset import open_webdataset

__all__ = [
    "BUILT_IN",
    "SOURCES",
    "Checked",
    "DataSpec",
    "Dataset",
    "FolderScan",
    "Source",
    "check",
    "detect",
    "fingerprint",
    "from_arrays",
    "load_data",
    "open_arrays",
    "open_data",
    "open_digits",
    "open_fashion",
    "open_folder",
    "open_mnist5k",
    "open_parquet",
    "open_webdataset",
    "order",
    "own_data",
    "sample_grid",
    "scan_folder",
]
