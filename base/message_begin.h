/* Stands first in every list of messages (see core/msg.def): what the includer has not defined becomes
 * nothing. message_end.h, which stands last, undefines all, so that each use begins anew. No guard. */
#ifndef MESSAGE
#define MESSAGE(name, number, text)
#endif
#ifndef U64
#define U64(field)
#endif
#ifndef U32
#define U32(field)
#endif
#ifndef U8
#define U8(field)
#endif
#ifndef BYTES
#define BYTES(field)
#endif
#ifndef END
#define END(name)
#endif
