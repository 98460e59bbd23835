"""
title: Agent Mode: commands on any model
author: Agent Mode
version: 0.1.0
license: MIT
description: `!coder`, `!agent list` and `!reset` on every model of Open WebUI, not only the personas.
"""

from agent_mode import HotswapFilter, HotswapValves


class Pipeline(HotswapFilter):
    class Valves(HotswapValves):
        pass
