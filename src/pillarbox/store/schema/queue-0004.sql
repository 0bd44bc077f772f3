-- The rows that are due are found without a look at those of destinations that are given a rest.
DROP INDEX outgoing_due;
CREATE INDEX outgoing_due ON outgoing (held, next_try, next_hop);
