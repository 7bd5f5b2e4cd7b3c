"""Cohorts: segment many cases on one machine or several, resumable at any time, with tables and a report."""
