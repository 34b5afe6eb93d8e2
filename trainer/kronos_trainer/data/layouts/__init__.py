"""Files as vendors, exchanges and libraries write them -> tables whose columns are known.

`known.LAYOUTS` is the table of layouts: a new one is a row there, or an alias in `columns.ALIASES`.
`containers` opens a file whatever it is packed in, `text`, `arrow`, `documents` and `store` read the kinds of files,
`wide` has the tables with a column for each symbol, and `recognise` finds the layout.
"""
