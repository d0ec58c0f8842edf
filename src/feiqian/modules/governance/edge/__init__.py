"""What governance shows to people: projection and routes."""

from feiqian.api.edge import Edge
from feiqian.modules.governance.edge.projections import PROJECTION
from feiqian.modules.governance.edge.routes import ROUTES

EDGE = Edge(projections=(PROJECTION,), routes=ROUTES)
