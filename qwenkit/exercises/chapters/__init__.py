"""How each exercise is graded, one module a chapter: pure functions of ``Facts``."""
