draw_planes=None
