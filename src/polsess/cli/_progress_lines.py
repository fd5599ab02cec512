"""Progress in a log, where there is no terminal to draw a bar on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.progress import Progress, TaskID

from polsess.pace import Pace, in_words


class ProgressLines(Progress):
    """Says in a line how far the work is, after half a minute and then ever seldomer.

    Args:
        say: Receives the lines.
        get_time: Tells the time in seconds; the system's clock if left out.
    """

    def __init__(self, say: Callable[[str], None], get_time: Callable[[], float] | None = None) -> None:
        super().__init__(disable=True, get_time=get_time)
        self._say = say
        self._paces: dict[TaskID, Pace] = {}

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """Change a task, and say so if it is time."""
        super().update(task_id, **changes)
        self._tell(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Bring a task forward, and say so if it is time."""
        super().advance(task_id, advance)
        self._tell(task_id)

    def _tell(self, task_id: TaskID) -> None:
        task = self._tasks[task_id]
        elapsed = task.elapsed or 0.0
        if task.finished or not self._paces.setdefault(task_id, Pace()).is_due(elapsed):
            return
        of_all = "" if task.total is None else f" of {task.total:g}"
        text = f"{task.description}: {task.completed:.4g}{of_all} after {in_words(elapsed)}"
        if task.total is not None and task.completed > 0:
            left = elapsed * (task.total - task.completed) / task.completed
            text += f", about {in_words(left)} left"
        self._say(text)
