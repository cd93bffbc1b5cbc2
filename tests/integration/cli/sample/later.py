"""A service that sends later."""

from headwater import Aggregate, Command, Event, Service, command_handler


class Ring(Command):
    bell_id: str


class Rung(Event):
    bell_id: str


class Bell(Aggregate):
    @command_handler(creates="if_missing")
    def ring(self, command: Ring) -> Rung:
        return Rung(command.bell_id)


service = Service("later", aggregates=[Bell], scheduling=True)
