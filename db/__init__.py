"""The only place with SQL, and the only one that imports SQLAlchemy."""
