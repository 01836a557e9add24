"""How databases of earlier versions become this one's; run by ``database.py``, never by hand."""
