"""How the processes of this suite are made: forked from a clean one that has done the imports."""

import multiprocessing

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["__main__", "tests.faults.durable_receiver", "tests.faults.tick_child"])
