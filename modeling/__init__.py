"""Configuration, token selection and models. Files that ship with every saved checkpoint live here."""
