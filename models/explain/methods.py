"""The names of the explanation methods, apart from the code that computes them: a job's settings need no captum."""

from typing import Literal, get_args

Method = Literal["gradient", "guided_backprop", "grad_cam", "guided_grad_cam", "cam"]
METHODS: tuple[Method, ...] = get_args(Method)
