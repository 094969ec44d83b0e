/* Every bound of the product, in one place. Nothing in Clockwise grows past a number on this page
 * (or a configuration key whose range is on this page). */
#ifndef CLOCKWISE_CORE_LIMITS_H
#define CLOCKWISE_CORE_LIMITS_H

/* The ring. */
#define LIMIT_SLOTS          16384 /* Redis Cluster's hash slots: the top 14 bits of a position */
#define LIMIT_PARTITIONS     4096  /* largest Q; a power of two */
#define LIMIT_PARTITIONS_MIN 8
#define LIMIT_MEMBERS        256 /* nodes in one ring */
#define LIMIT_WORKERS        64  /* workers of one node */
#define LIMIT_REPLICAS       8   /* largest N */
#define LIMIT_STAGED         64  /* changes of the ring in one plan */
#define LIMIT_WALK           20  /* primaries, also those to come, and fallbacks of one key */
#define LIMIT_NAME           64  /* bytes of a node's, cluster's or zone's name, with the final 0 */
#define LIMIT_ADDR           64  /* bytes of a numeric address as text, with the final 0 */

/* In build/gossip-sim thousands of members each know thousands: it counts how often they speak and how
 * soon they know, and its names are short. */
#ifdef CLOCKWISE_SHORT_NAMES
#undef LIMIT_PARTITIONS
#undef LIMIT_MEMBERS
#undef LIMIT_NAME
#undef LIMIT_ADDR
#define LIMIT_PARTITIONS 64
#define LIMIT_MEMBERS    64
#define LIMIT_NAME       12
#define LIMIT_ADDR       16
#endif

/* Keys, values, versions. */
#define LIMIT_KEY             (64u << 10)
#define LIMIT_VALUE           (8u << 20)
#define LIMIT_SIBLINGS        64 /* a context-less write beyond it is refused; merges may pass it */
#define LIMIT_SIBLINGS_MERGED 1024        /* a merge keeps at most so many; see object_merge() */
#define LIMIT_VECTOR          64          /* entries of one version vector */
#define LIMIT_CLOUD           128         /* dots outside a vector's reach in one causal context */
#define LIMIT_IDS             16          /* request ids remembered in one object */
#define LIMIT_OBJECT          (64u << 20) /* bytes of one encoded object */
#define LIMIT_CONTEXT_TEXT    4640        /* bytes of a context as clients send it */

/* Messages. */
#define LIMIT_FRAME     (LIMIT_OBJECT + (1u << 20)) /* bytes of one frame between workers */
#define LIMIT_CONTROL   (64u << 10)                 /* bytes of one message on a Unix socket */
#define LIMIT_DATAGRAM  1400                        /* bytes of one gossip datagram */
#define LIMIT_MSG_DEPTH 8                           /* nesting of one message */

/* Clients. */
#define LIMIT_CLIENTS       10000                      /* default of max_clients */
#define LIMIT_INLINE        (64u << 10)                /* bytes of an inline command, as in Redis */
#define LIMIT_ARGS          (1024u * 1024u)            /* arguments of one command, as in Redis */
#define LIMIT_CLIENT_INPUT  (LIMIT_VALUE + (1u << 20)) /* unparsed bytes of one connection */
#define LIMIT_CLIENT_OUTPUT (256u << 20)               /* unsent bytes of one connection */
#define LIMIT_PIPELINE      1024                       /* commands of one connection in flight */

/* MONITOR, of one worker. */
#define LIMIT_MONITORS     4    /* connections that watch */
#define LIMIT_MONITOR_RATE 5000 /* commands shown in a second */

/* Clients that have to log in first and have not. */
#define LIMIT_STRANGER_ARGS   10          /* arguments of one command, as in Redis */
#define LIMIT_STRANGER_BULK   (16u << 10) /* bytes of one argument, as in Redis */
#define LIMIT_STRANGER_QUERY  (64u << 10) /* bytes of one command */
#define LIMIT_STRANGER_OUTPUT (16u << 10) /* unsent bytes */

/* Users. */
#define LIMIT_ACL_USERS     1000
#define LIMIT_ACL_NAME      128        /* bytes of a name */
#define LIMIT_ACL_PASSWORDS 32         /* of one user */
#define LIMIT_ACL_PATTERNS  256        /* of keys and channels, of one user */
#define LIMIT_ACL_RULES     256        /* about commands, of one user */
#define LIMIT_ACL_RULE      4096       /* bytes of a pattern */
#define LIMIT_ACL_TEXT      (4u << 20) /* bytes of all users as text */
#define LIMIT_ACL_LOG       1000       /* refusals remembered by one worker */

/* Work in flight, per worker. */
#define LIMIT_REQUESTS 16384 /* coordinated requests */
/* Requests of a worker's own clients. Much less than what it coordinates, because siblings and other
 * nodes forward theirs to it; and so few that they are answered long before anybody's patience ends:
 * what clients pipeline beyond that waits unread. */
#define LIMIT_CLIENT_REQUESTS 1024
#define LIMIT_LINK_OUTPUT     (64u << 20) /* unsent bytes of one link to another worker */

#endif
