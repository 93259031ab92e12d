"""The executors: each makes a graph run faster, none changes what it means."""
