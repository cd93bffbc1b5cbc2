"""Commands that are sent later, once or again and again."""

from headwater.processing.scheduling.processor import ScheduleProcessor, schedule_applier
from headwater.processing.scheduling.recurring import Recurring
from headwater.processing.scheduling.schedule import Schedule, Scheduled

__all__ = ["Recurring", "Schedule", "ScheduleProcessor", "Scheduled", "schedule_applier"]
