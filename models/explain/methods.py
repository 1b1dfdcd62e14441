"""The names of the explanation methods. They stand apart from the code, so that a job's settings do not import captum."""

from typing import Literal, get_args

Method = Literal["gradient", "guided_backprop", "grad_cam", "guided_grad_cam", "cam"]
METHODS: tuple[Method, ...] = get_args(Method)
