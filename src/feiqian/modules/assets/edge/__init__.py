"""What assets shows to people: projection and routes."""

from feiqian.api.edge import Edge
from feiqian.modules.assets.edge.projections import PROJECTION
from feiqian.modules.assets.edge.routes import ROUTES

EDGE = Edge(projections=(PROJECTION,), routes=ROUTES)
