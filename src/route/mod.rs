//! Request head to route. Pure: knows no endpoints and no health.
