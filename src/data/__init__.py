"""Images in class folders: finding, checking, transforming and feeding them."""
