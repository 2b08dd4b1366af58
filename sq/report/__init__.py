"""Reports: plots, pages, cards and costs."""
