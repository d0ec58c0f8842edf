"""What a client's call may raise: a refusal by a rule, or that nobody answered."""


class Refused(Exception):
    """A rule of gateway or ledger refused; `codespace` and `number` name it for good, `status` is HTTP's."""

    def __init__(self, codespace: str, number: int, message: str, status: int = 0, retry_after_s: int = 0) -> None:
        super().__init__(f"{message} [{codespace} {number}]")
        self.codespace = codespace
        self.number = number
        self.message = message
        self.status = status
        self.retry_after_s = retry_after_s

    @property
    def is_busy(self) -> bool:
        """Say whether the same call may succeed later as it stands."""
        return self.status in (429, 503)


class Unreachable(Exception):
    """No gateway answered at the address, or it broke off; a submission may or may not have arrived: send it again."""
