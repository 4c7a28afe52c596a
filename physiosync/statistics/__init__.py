"""Statistics of whole trials that hold when subjects share clips. Pure: tables in, numbers out."""
