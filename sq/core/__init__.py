"""The contracts between the parts: configuration, rows, ledger, chat prefix, prompts, tracking, errors."""
