"""The exercises of the course: graded on the state of the target, or on a learner's answer."""
