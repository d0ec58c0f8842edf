"""What payments shows to people: files, projection, routes, commands."""

from feiqian.api.edge import Edge
from feiqian.modules.payments.edge.commands import app
from feiqian.modules.payments.edge.projections import PROJECTION
from feiqian.modules.payments.edge.routes import NOTES, ROUTES

EDGE = Edge(projections=(PROJECTION,), routes=ROUTES, commands=app, notes=NOTES)
