-- Logins may leave out the domain.
CREATE INDEX account_local ON account (substr(address, 1, instr(address, '@') - 1));
