"""
title: Agent Mode: personas
author: Agent Mode
version: 0.1.0
license: MIT
description: Every persona a model; `!coder`, `!agent list` and `!reset` switch in mid conversation.
"""

from agent_mode import PersonaManifold, PersonaValves


class Pipeline(PersonaManifold):
    class Valves(PersonaValves):
        pass
