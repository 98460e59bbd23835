"""Failed sign-ins make the next one from the same address wait."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict

FREE = 4
"""So many may fail before anybody waits."""
LONGEST_SECONDS = 60.0
FORGOTTEN_SECONDS = 900.0
"""After so long without an attempt an address is as new."""
_MEMORY = 4096
"""How many addresses are remembered; those that tried longest ago go first."""


class Slowdown:
    """Counts sign-ins by address. Each has failed until it has succeeded, so that many at once count."""

    def __init__(self) -> None:
        self._tries: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def begin(self, address: str) -> float:
        """Somebody tries: seconds to wait before the next try; 0: this one may go on, and is counted."""
        now, place = time.monotonic(), network(address)
        count, last = self._tries.get(place, (0, now))
        if now - last > FORGOTTEN_SECONDS:
            count = 0
        if count >= FREE:
            wait = last + min(LONGEST_SECONDS, 2.0 ** min(count - FREE + 1, 10)) - now
            if wait > 0:
                return wait
        self._tries[place] = (count + 1, now)
        self._tries.move_to_end(place)
        if len(self._tries) > _MEMORY:
            self._tries.popitem(last=False)
        return 0.0

    def succeeded(self, address: str) -> None:
        """The try was good; the address is as new."""
        self._tries.pop(network(address), None)


def network(address: str) -> str:
    """What counts as one address: of IPv6, a household has 2**64 of them."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
