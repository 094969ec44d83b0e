/* See message_begin.h. No guard. */
#undef MESSAGE
#undef U64
#undef U32
#undef U8
#undef BYTES
#undef END
