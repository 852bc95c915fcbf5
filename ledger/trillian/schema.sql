CREATE SCHEMA IF NOT EXISTS fabtrail;

-- Which node signs a tree: it alone knows the token.
CREATE TABLE IF NOT EXISTS fabtrail.signer (
  tree_id bigint PRIMARY KEY,
  origin  text NOT NULL,
  token   bytea NOT NULL CHECK (length(token) = 16),
  holder  text NOT NULL,
  since   timestamptz NOT NULL DEFAULT now()
);

-- Manifests by their SHA-256, written before the first leaf that names them.
CREATE TABLE IF NOT EXISTS fabtrail.manifest (
  tree_id bigint NOT NULL,
  digest  bytea NOT NULL CHECK (length(digest) = 32),
  body    bytea NOT NULL,
  PRIMARY KEY (tree_id, digest)
);

-- Published notes: the first at each size, which receipts rest on, and the newest.
CREATE TABLE IF NOT EXISTS fabtrail.note (
  tree_id bigint NOT NULL,
  size    bigint NOT NULL,
  first   bytea NOT NULL,
  latest  bytea NOT NULL,
  PRIMARY KEY (tree_id, size)
);

-- Leaves of a tree that a node signs must carry that node's token. Trees without
-- a row in fabtrail.signer are none of ours.
CREATE OR REPLACE FUNCTION fabtrail.fence() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
  IF EXISTS (SELECT FROM added a JOIN fabtrail.signer s ON s.tree_id = a.treeid
             WHERE substring(a.extradata FROM 2 FOR 16) IS DISTINCT FROM s.token) THEN
    RAISE EXCEPTION 'fabtrail: another node signs this tree';
  END IF;
  RETURN NULL;
END;
$$;

-- Waits for every transaction that is adding leaves, and keeps new ones out until the
-- caller's has ended. The node that signs needs no rights on Trillian's tables for it.
CREATE OR REPLACE FUNCTION fabtrail.settle() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
  LOCK TABLE LeafData, SequencedLeafData IN SHARE ROW EXCLUSIVE MODE;
END;
$$;

REVOKE ALL ON FUNCTION fabtrail.settle() FROM PUBLIC;

-- The signer of the cluster joins the newest leaves of a tree with their data. A tree
-- that the planner has no statistics of, as it is new beside another one, would count as
-- one of a leaf or two, and each leaf of the join would be looked for among all of the
-- tree: minutes instead of milliseconds. Without statistics of this column it is a share
-- of the whole table, and each leaf is looked up by its key.
ALTER TABLE LeafData ALTER COLUMN TreeId SET STATISTICS 0;
ALTER TABLE SequencedLeafData ALTER COLUMN TreeId SET STATISTICS 0;

-- Tells the planner, and all plans that are kept, how large the tables have become. A
-- plan for empty ones would be kept until PostgreSQL looks at them of itself, after minutes.
CREATE OR REPLACE FUNCTION fabtrail.learn() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
  ANALYZE LeafData, SequencedLeafData;
END;
$$;

REVOKE ALL ON FUNCTION fabtrail.learn() FROM PUBLIC;

DROP TRIGGER IF EXISTS fabtrail_fence ON LeafData;

CREATE TRIGGER fabtrail_fence AFTER INSERT ON LeafData
  REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION fabtrail.fence();
