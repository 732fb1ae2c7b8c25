"""The same three workloads, written in the idiom of each system under test."""
