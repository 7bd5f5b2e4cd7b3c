"""Cohorts: many cases by loops that may be killed, on one machine or many, with a table and a report at the end."""
