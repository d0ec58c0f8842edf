"""What accounts shows to people: pending approvals."""

from feiqian.api.edge import Edge
from feiqian.modules.accounts.edge.projections import PROJECTION
from feiqian.modules.accounts.edge.routes import ROUTES

EDGE = Edge(projections=(PROJECTION,), routes=ROUTES)
