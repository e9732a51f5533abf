"""Checks that teach: whether a task is done, and if not, which mistake it looks like."""

from hw3utils.checking.desk import check as check
from hw3utils.checking.desk import progress as progress
from hw3utils.checking.desk import record as record
from hw3utils.checking.desk import submit as submit
