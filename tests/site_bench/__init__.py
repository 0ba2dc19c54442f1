"""The benchmark of a site: faults in the lab, what a phone felt, in one table.

    PYTHONPATH=tests:. python3 -m site_bench --fault blackhole --runs 20

This project beside models of what others do, all on the same lab in the same run. Needs
root, as the lab does.
"""
