"""OSS: the object store's HTTP protocol over files."""
