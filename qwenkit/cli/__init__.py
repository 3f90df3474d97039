"""The command line: one file for each group of commands; commands lists them, main runs one."""
