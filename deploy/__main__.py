"""What a MAP runs."""

from app import UNetPlusPlusApp

UNetPlusPlusApp().run()
