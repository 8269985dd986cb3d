"""Labels of a folder of images: python create_imagenet2012_label.py --img_path FOLDER writes imagenet_label.json.

Single-Path-NAS's name for ``python -m src.data.labels``.
"""

from src.data.labels import main
from src.errors import run

if __name__ == "__main__":
    run(main)
