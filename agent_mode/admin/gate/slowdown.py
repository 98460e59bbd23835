"""Failed sign-ins make the next one of their kind from the same address wait.

Behind a proxy many people have one address, so nobody must wait for what others have got wrong:

- Whoever brings a good key comes in at once, however many wrong ones came before. A key cannot be guessed,
  and the other routes take it without a wait as well; wrong ones are counted, so that their sender is told.
- A password can be guessed. Its sender waits, with the right one too, but only for the same e-mail address.
"""

from __future__ import annotations

import hashlib
import ipaddress
import time
from collections import OrderedDict

FREE = 4
"""So many may fail before anybody waits."""
LONGEST_SECONDS = 60.0
FORGOTTEN_SECONDS = 900.0
"""After so long without an attempt an address is as new."""
_MEMORY = 16_384
"""How many are remembered; those that tried longest ago go first."""


class Slowdown:
    """Counts sign-ins by address and account.

    Each has failed until it has succeeded, so that many at once count.
    """

    def __init__(self) -> None:
        self._tries: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()

    def begin(self, address: str, account: str = "") -> float:
        """Somebody tries: seconds to wait before the next try; 0: this one may go on, and is counted.

        Args:
            address: where it comes from.
            account: the e-mail address that it is for; empty: a key.
        """
        now, who = time.monotonic(), _who(address, account)
        count, last = self._tries.get(who, (0, now))
        if now - last > FORGOTTEN_SECONDS:
            count = 0
        if count >= FREE:
            wait = last + min(LONGEST_SECONDS, 2.0 ** min(count - FREE + 1, 10)) - now
            if wait > 0:
                return wait
        self._tries[who] = (count + 1, now)
        self._tries.move_to_end(who)
        if len(self._tries) > _MEMORY:
            self._tries.popitem(last=False)
        return 0.0

    def succeeded(self, address: str, account: str = "") -> None:
        """The try was good; the next one is as the first."""
        self._tries.pop(_who(address, account), None)


def _who(address: str, account: str) -> tuple[str, str]:
    if not account:
        return network(address), ""
    # A digest, since anything may be entered as an e-mail address, of any length.
    name = account.strip().casefold().encode("utf-8", "replace")
    return network(address), hashlib.sha256(name).hexdigest()


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
