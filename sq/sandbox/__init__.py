"""Programs that models wrote, run where they can do no harm, against tests whose verdict they cannot forge."""
