"""`bench --overspend`: which part of a limit do many clients get over several instances?"""
