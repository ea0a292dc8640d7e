"""Text front end: normalisation, markup, splitting and symbol ids.

Nothing is imported here, so that ``import mynah.text`` costs nothing; import the module you need.
"""
