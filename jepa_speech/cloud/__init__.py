"""Objects in Google Cloud Storage and Amazon S3, and a local cache of stores that are kept there."""
